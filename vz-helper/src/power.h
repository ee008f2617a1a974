// Effects of a Mac on processes: App Nap, and sleep.

/// Keeps macOS from throttling the helper (the Mac may still go to sleep when idle), and sends the events `sleep` and
/// `wake` from now on.
void preparePower(void);
