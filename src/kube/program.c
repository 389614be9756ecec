#include "kube/program.h"
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEADERS_MAX 64
#define MUSL "ld-musl"

static int read_at(int fd, uint64_t at, void *ret, size_t size)
{
        return pread(fd, ret, size, (off_t)at) == (ssize_t)size;
}

static const char *last_of(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static int begins(const char *text, const char *with)
{
        return !strncmp(text, with, strlen(with));
}

static enum program by_loader(int fd, const Elf64_Phdr *part)
{
        char path[256];

        if (part->p_filesz < 2 || part->p_filesz > sizeof path ||
            !read_at(fd, part->p_offset, path, part->p_filesz) || path[part->p_filesz - 1])
                return PROGRAM_UNKNOWN;
        return begins(last_of(path), MUSL) ? PROGRAM_MUSL : PROGRAM_GLIBC;
}

enum program program_of_file(int fd)
{
        Elf64_Ehdr head;
        Elf64_Phdr part;
        int is_loaded = 0;

        if (!read_at(fd, 0, &head, sizeof head) || memcmp(head.e_ident, ELFMAG, SELFMAG) ||
            head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
            head.e_phentsize != sizeof part || head.e_phnum > HEADERS_MAX)
                return PROGRAM_UNKNOWN;
        for (uint64_t i = 0; i < head.e_phnum; i++) {
                if (!read_at(fd, head.e_phoff + i * sizeof part, &part, sizeof part))
                        return PROGRAM_UNKNOWN;
                if (part.p_type == PT_INTERP)
                        return by_loader(fd, &part);
                is_loaded |= part.p_type == PT_LOAD;
        }
        return is_loaded ? PROGRAM_STATIC : PROGRAM_UNKNOWN;
}

enum program program_of(pid_t pid)
{
        char path[32], file[PATH_MAX];
        enum program ret;
        ssize_t n;
        int fd;

        snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
        n = readlink(path, file, sizeof file - 1);
        fd = n < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return PROGRAM_UNKNOWN;
        file[n] = 0;
        ret = program_of_file(fd);
        close(fd);
        if (ret == PROGRAM_STATIC && begins(last_of(file), "ld-")) // a loader that was called by its name
                ret = begins(last_of(file), MUSL) ? PROGRAM_MUSL : PROGRAM_GLIBC;
        return ret;
}
