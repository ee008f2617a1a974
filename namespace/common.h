/* Shared by the files of drover-namespace. */
#pragma once
#include <stdnoreturn.h>
#include <sys/types.h>

/* Descriptors that the supervisor gives: the guest ends when the first does, and says "ready" on the second. */
enum { LIFE = 0, CONSOLE = 2, REPORT = 3 };

/* Prints "drover-namespace: WHAT: REASON" and ends the process. */
noreturn void die(const char *what);

/* Ends the process if RESULT, of a system call, is negative. */
long must(long result, const char *what);

/* Refuses the system calls that container runtimes refuse, in this process and all that it starts. */
void refuse_system_calls(void);

/* Runs process 1 of a guest, inside of its root. The guest is ready once NETWORK can be read, too; -1: it does not wait
 * for a network. */
noreturn void run_init(int daemon_socket, int agent_socket, int network);

/* Serves one connection of the supervisor, in a process of its own: see agent.c. */
noreturn void serve_command(int connection);

/* Serves one connection with a program for a person: see program.c. */
noreturn void serve_program(int connection, char *const words[], int on_terminal);

/* Ends when the supervisor has closed the connection, which it does after the last frame. Were it closed on this side
 * first, what the supervisor still sends would fail, and it would lose the frames that it has not read. */
noreturn void end_after_supervisor(int connection);

/* In a new process: no descriptor but 0, 1 and 2, default signals, a session of its own; then runs WORDS. */
noreturn void run_program(char *const words[]);

/* The same in a process of its own, with pipes of which the caller gets the other ends. @returns -1 as fork */
pid_t start_program(char *const words[], int *input, int *output, int *error);
