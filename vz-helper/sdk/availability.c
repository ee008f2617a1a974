// The function behind @available. On a Mac it comes with the compiler; on Linux it is missing, and the
// program is only linked.
int __isPlatformVersionAtLeast(unsigned platform, unsigned major, unsigned minor, unsigned patch);
int __isPlatformVersionAtLeast(unsigned platform, unsigned major, unsigned minor, unsigned patch) {
  (void)platform;
  (void)major;
  (void)minor;
  (void)patch;
  return 1;
}
