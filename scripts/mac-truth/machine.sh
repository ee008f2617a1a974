# shellcheck shell=sh
# Changes that the questions make to the machine. A rehearsal has another file in its place.
forget() { echo 2 > /proc/sys/vm/drop_caches; }
network() {
  ip link set eth0 up && udhcpc -i eth0 -n -q -t 10 -T 1 -s /bin/true 2>&1 | tail -n 1
}
end() {
  case $1 in
    panic) echo c > /proc/sysrq-trigger ;;
    reset) reboot -f ;;
    *) poweroff -f ;;
  esac
}
