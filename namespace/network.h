/* A network of its own for a guest: it reaches the world through slirp4netns, and nothing of this host. */
#pragma once
#include <stdnoreturn.h>
#include <sys/types.h>

struct slirp {
  const char *program;
  /* slirp4netns waits for a byte from go[0] before it looks for the network, and then says on ready[1] that it has
   * connected it. */
  int go[2], ready[2];
};

/* Before the network is made, so that slirp4netns stays in the host's. */
struct slirp prepare_slirp(const char *program);

/* In a new process: runs slirp4netns for the network of process NETWORK_OF. It ends when the other end of LIFE is
 * closed; -1: with its parent. */
noreturn void become_slirp(const struct slirp *slirp, pid_t network_of, int own_users, int life);

/* In a new network namespace: its loopback, and no way to link-local addresses. */
void make_network(void);

/* drover-namespace outbound SLIRP RESOLVERS PROGRAM ARG...: becomes PROGRAM, in a network namespace of its own. */
noreturn void run_outbound(char **words);
