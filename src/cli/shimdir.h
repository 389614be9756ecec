// The folder that is put in front of an agent's library path: the shim, and beside it the way to the real
// driver.
#pragma once
#include <stddef.h>

// Makes `dir` with our libcuda.so.1 and libnvidia-ml.so.1, copies of those in the folder `shims`, and beside
// each a link to the driver's own (the first on LD_LIBRARY_PATH or in the loader's folders), which they need
// under the names libcuda-driver.so.1 and libnvidia-ml-driver.so.1. Returns 0, or a negative errno with
// `what` saying what is missing.
int shim_dir_make(const char *dir, const char *shims, char *what, size_t what_size);
// Where that folder is to be for the agent in the seat `seat` (a folder of this user's): in it; or, if
// nothing can be run there (Debian mounts /run noexec), in XDG_RUNTIME_DIR, TMPDIR or /tmp, the same for the
// same seat. It stays, as the seat's does: a process that its agent has left behind may still begin others.
// Returns 0, or -EACCES: nothing can be run from any of them, or others could change what lies there.
int shim_dir_choose(const char *seat, char *ret_dir, size_t size);
// The path of a library as the loader would find it; 0, or -ENOENT.
int shim_dir_find(const char *name, char *path, size_t size);
