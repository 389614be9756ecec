// Which pod a process belongs to, from the kernel's word: its cgroup.
#pragma once
#include <stddef.h>
#include <sys/types.h>

#define CGROUP_POD_SIZE 37

enum cgroup_qos { CGROUP_GUARANTEED, CGROUP_BURSTABLE, CGROUP_BEST_EFFORT };

// Reads the text of /proc/PID/cgroup, of either cgroup version, under either of the kubelet's drivers ("pod"
// and the UID as a folder; or "kubepods-burstable-pod" and the UID with underscores, ".slice"). ret_pod: the
// UID with dashes. Returns 0, or -ENOENT: no pod's.
int cgroup_parse(const char *text, size_t size, char ret_pod[CGROUP_POD_SIZE], enum cgroup_qos *ret_qos);
// The same of a process. -ESRCH: it cannot be seen, or has ended.
int cgroup_of(pid_t pid, char ret_pod[CGROUP_POD_SIZE], enum cgroup_qos *ret_qos);
