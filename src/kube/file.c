#include "kube/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int has_already(const char *path, const char *text, size_t size)
{
        char *there = malloc(size + 1);
        int same = there && file_read_whole(path, there, size + 1) == (int)size && !memcmp(there, text, size);

        free(there);
        return same;
}

int file_write_whole(const char *folder, const char *name, const char *text)
{
        char path[PATH_MAX], new[PATH_MAX];
        size_t size = strlen(text);
        int fd, error = 0;

        if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path ||
            snprintf(new, sizeof new, "%s/.%s.new", folder, name) >= (int)sizeof new)
                return -ENAMETOOLONG;
        if (has_already(path, text, size)) // so that a full disk is in the way of nothing that was there
                return 0;
        fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return -errno;
        errno = ENOSPC; // a write in part says nothing
        if (write(fd, text, size) != (ssize_t)size || fsync(fd) < 0)
                error = -errno;
        if (close(fd) < 0 && !error)
                error = -errno;
        if (!error && rename(new, path) < 0)
                error = -errno;
        if (error)
                unlink(new);
        return error;
}

int file_read_whole(const char *path, char *ret_text, size_t size)
{
        FILE *file = fopen(path, "re");
        size_t n;
        int failed;

        if (!file)
                return -errno;
        n = fread(ret_text, 1, size, file);
        failed = ferror(file);
        fclose(file);
        if (failed || n == size)
                return failed ? -EIO : -EFBIG;
        ret_text[n] = 0;
        return (int)n;
}

uint32_t file_count(const char *dir)
{
        DIR *folder = opendir(dir);
        const struct dirent *entry;
        uint32_t n = 0;

        while (folder && (entry = readdir(folder)))
                n += entry->d_name[0] != '.';
        if (folder)
                closedir(folder);
        return n;
}

void file_remove_folder(const char *dir)
{
        DIR *folder = opendir(dir);
        const struct dirent *entry;

        while (folder && (entry = readdir(folder)))
                if (unlinkat(dirfd(folder), entry->d_name, 0) < 0 && errno == EISDIR &&
                    entry->d_name[0] != '.')
                        unlinkat(dirfd(folder), entry->d_name, AT_REMOVEDIR);
        if (folder)
                closedir(folder);
        rmdir(dir);
}
