/*
 * The system calls that no guest may make: ways around the host's permissions, into the kernel, or out of namespaces.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

enum { MAX_INSTRUCTIONS = 200, END = -1, X32_FIRST = 0x40000000 };

static const int refused[] = {
    SYS_open_by_handle_at, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd,
    SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_keyctl, SYS_add_key, SYS_request_key,
    SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module, SYS_delete_module,
    SYS_reboot, SYS_swapon, SYS_swapoff, SYS_acct, SYS_syslog, SYS_settimeofday, SYS_clock_settime,
#ifdef SYS_iopl
    SYS_iopl, SYS_ioperm,
#endif
    END,
};

/* The same by the numbers of the 32-bit programs that the processor also runs. Their socketcall, which takes its
 * arguments from memory, cannot be inspected. */
#if defined __x86_64__
enum { NATIVE = AUDIT_ARCH_X86_64, COMPAT = AUDIT_ARCH_I386, COMPAT_SOCKET = 359 };
static const int compat_refused[] = {342, 357, 336, 374, 425, 426, 427, 288, 286, 287, 283, 128, 350,
                                     129, 88, 87, 115, 51, 103, 79, 264, 404, 25, 110, 101, END};
#elif defined __aarch64__
enum { NATIVE = AUDIT_ARCH_AARCH64, COMPAT = AUDIT_ARCH_ARM, COMPAT_SOCKET = 281 };
static const int compat_refused[] = {371, 386, 364, 388, 425, 426, 427, 311, 309, 310, 347, 128, 379,
                                     129, 88, 87, 115, 51, 103, 79, 262, 404, END};
#else
#error "drover-namespace does not know the system calls of this processor"
#endif

static struct sock_filter program[MAX_INSTRUCTIONS];
static unsigned short length;

static void emit(unsigned short code, unsigned value, unsigned char if_true, unsigned char if_false) {
  program[length++] = (struct sock_filter)BPF_JUMP(code, value, if_true, if_false);
}

static void load(size_t offset) { emit(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0); }

static void answer(unsigned action) { emit(BPF_RET | BPF_K, action, 0, 0); }

static void answer_if(unsigned short test, unsigned value, unsigned action) {
  emit(BPF_JMP | test | BPF_K, value, 0, 1);
  answer(action);
}

/* The first argument of `socket` is in the low half of args[0]: both architectures are little-endian. */
static void rules(const int *numbers, int socket_number) {
  load(offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
  answer_if(BPF_JGE, X32_FIRST, SECCOMP_RET_ERRNO | ENOSYS);
#endif
  for (; *numbers != END; numbers++) answer_if(BPF_JEQ, (unsigned)*numbers, SECCOMP_RET_ERRNO | EPERM);
  emit(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)socket_number, 1, 0);
  answer(SECCOMP_RET_ALLOW);
  load(offsetof(struct seccomp_data, args));
  answer_if(BPF_JEQ, AF_VSOCK, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
  answer(SECCOMP_RET_ALLOW);
}

void refuse_system_calls(void) {
  load(offsetof(struct seccomp_data, arch));
  emit(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 0, 0);
  unsigned short to_compat = (unsigned short)(length - 1);
  rules(refused, SYS_socket);
  program[to_compat].jf = (unsigned char)(length - to_compat - 1);
  emit(BPF_JMP | BPF_JEQ | BPF_K, COMPAT, 1, 0);
  answer(SECCOMP_RET_ERRNO | ENOSYS);
  rules(compat_refused, COMPAT_SOCKET);
  struct sock_fprog filter = {.len = length, .filter = program};
  must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), "seccomp");
}
