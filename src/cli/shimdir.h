// The folder that is put in front of an agent's library path: the shim, and beside it the way to the real
// driver.
#pragma once
#include <stddef.h>

// Makes `dir` with libcuda.so.1 (ours) and libcuda-driver.so.1 (a link to the real one, the first on
// LD_LIBRARY_PATH or in the loader's folders). Returns 0; -ENOENT when there is no driver or no shim, with
// `what` saying which.
int shim_dir_make(const char *dir, const char *shim, char *what, size_t what_size);
// The path of a library as the loader would find it; 0, or -ENOENT.
int shim_dir_find(const char *name, char *path, size_t size);
