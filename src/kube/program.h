// What kind of program a process is, as far as it matters here: only glibc's loader loads the shims.
#pragma once
#include <sys/types.h>

enum program {
        PROGRAM_UNKNOWN, // its file cannot be read, or is no ELF file of 64 bits
        PROGRAM_GLIBC,   // or another loader that is not known to differ
        PROGRAM_STATIC,
        PROGRAM_MUSL,
};

// By the process' file. To open that of another user's process takes CAP_SYS_PTRACE. May wait as long as the
// file system that it lies on.
enum program program_of(pid_t pid);
// By an open file, which may be anything; it is read in a few small pieces.
enum program program_of_file(int fd);
