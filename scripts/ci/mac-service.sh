#!/bin/sh
# mac-service.sh IMAGE: activates a nix-darwin system with Drover on a Mac that is thrown away afterwards, and looks at
# what launchd and drover doctor say. IMAGE stands in for the guest image: GitHub's Macs with Apple silicon boot no
# guests.
set -eu
cd "$(dirname "$0")/../.."
image=$(cd "$1" && pwd)
label=system/org.nixos.drover
[ -e "$image/manifest.json" ] || cat > "$image/manifest.json" << 'END'
{ "generation": "ci", "nixVersion": "2.28.0", "protocol": { "major": 1, "minor": 38, "features": [] },
  "systems": ["aarch64-linux"], "architecture": "aarch64",
  "kernel": { "path": "kernel" }, "initrd": { "path": "initrd" }, "commandLine": "quiet" }
END
nix build --print-build-logs --impure --out-link system \
  --expr "import ./nix/ci-mac.nix { flake = \"git+file://$PWD?shallow=1\"; image = \"$image/manifest.json\"; }"
# nix-darwin replaces none of these by itself.
for file in /etc/bashrc /etc/zshrc /etc/zprofile /etc/shells; do
  [ ! -e "$file" ] || sudo mv "$file" "$file.before-nix-darwin"
done
sudo ./system/activate
plist=/Library/LaunchDaemons/org.nixos.drover.plist
plutil -lint "$plist"
# It is loaded, and either runs or has said why it cannot.
sudo launchctl print "$label"
left=60
until sudo launchctl print "$label" | grep -q 'state = running' || sudo test -s /var/log/drover.stderr.log; do
  left=$((left - 1))
  [ "$left" -gt 0 ] || { echo "the service neither runs nor says why" >&2; exit 1; }
  sleep 1
done
sudo cat /var/log/drover.stderr.log /var/log/drover.log || true
[ -S /var/lib/drover/doors/nix.sock ] || echo "there is no door: see the log above"
sudo newsyslog -nv -f /etc/newsyslog.d/drover.conf
# It reports, whatever it finds.
sudo ./system/sw/bin/drover doctor --json --config /etc/drover/drover.yaml | tee doctor.json > /dev/null
node -e 'const { checks } = JSON.parse(require("fs").readFileSync("doctor.json")); for (const one of checks) console.log(JSON.stringify(one))'
# Whether or not the service could start here.
package=$(dirname "$(dirname "$(readlink -f ./system/sw/bin/drover)")")
node scripts/ci/watched.mjs "$package/lib/node_modules/drover/dist" /etc/drover/drover.yaml
