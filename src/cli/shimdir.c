#include "cli/shimdir.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int shim_dir_find(const char *name, char *path, size_t size)
{
        static const char usual[] =
                "/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu:/usr/lib64:/usr/lib:"
                "/usr/local/nvidia/lib64:/usr/local/cuda/compat:/usr/lib/wsl/lib";
        const char *given = getenv("LD_LIBRARY_PATH");
        char *folders, *save, *folder;

        if (asprintf(&folders, "%s:%s", given ? given : "", usual) < 0)
                return -ENOMEM;
        for (folder = strtok_r(folders, ":", &save); folder; folder = strtok_r(NULL, ":", &save)) {
                snprintf(path, size, "%s/%s", folder, name);
                if (access(path, R_OK) == 0)
                        break;
        }
        free(folders);
        return folder ? 0 : -ENOENT;
}

// What is at `path` becomes what is at `fresh`, in one go: a program that starts meanwhile finds the old one
// or the new one, and one that runs keeps what it has mapped.
static int put(const char *fresh, const char *path, int error)
{
        if (!error && rename(fresh, path) < 0)
                error = -errno;
        if (error)
                unlink(fresh);
        return error;
}

static int link_at(const char *dir, const char *name, const char *to)
{
        char path[PATH_MAX], fresh[PATH_MAX + 8], whole[PATH_MAX];

        if (!realpath(to, whole))
                return -errno;
        snprintf(path, sizeof path, "%s/%s", dir, name);
        snprintf(fresh, sizeof fresh, "%s.new", path);
        unlink(fresh);
        return put(fresh, path, symlink(whole, fresh) < 0 ? -errno : 0);
}

// A copy, not a link: the loader knows a library by its inode, and the shim finds its driver by the folder it
// lies in.
static int copy_to(const char *dir, const char *name, const char *from)
{
        char path[PATH_MAX], fresh[PATH_MAX + 8], bytes[65536];
        FILE *in = fopen(from, "rb"), *out;
        size_t n;
        int ok = in != NULL;

        snprintf(path, sizeof path, "%s/%s", dir, name);
        snprintf(fresh, sizeof fresh, "%s.new", path);
        unlink(fresh);
        out = ok ? fopen(fresh, "wb") : NULL;
        while (out && (n = fread(bytes, 1, sizeof bytes, in)) > 0)
                ok &= fwrite(bytes, 1, n, out) == n;
        ok &= out && fclose(out) == 0;
        if (in)
                fclose(in);
        return put(fresh, path, ok ? 0 : -ENOENT);
}

// One library of ours in the driver's place, and beside it a link to the driver's own.
static int place(const char *dir, const char *shims, const char *name, const char *driver_name)
{
        char driver[PATH_MAX], shim[PATH_MAX];

        if (shim_dir_find(name, driver, sizeof driver) < 0)
                return -ENODEV;
        snprintf(shim, sizeof shim, "%s/%s", shims, name);
        if (link_at(dir, driver_name, driver) < 0)
                return -ENODEV;
        return copy_to(dir, name, shim);
}

// A folder that another user has a hand in is no place for a library.
static int is_ours(const char *dir)
{
        struct stat info;

        return lstat(dir, &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
               !(info.st_mode & 022);
}

int shim_dir_make(const char *dir, const char *shims, char *what, size_t what_size)
{
        int error;

        if ((mkdir(dir, 0700) < 0 && errno != EEXIST) || !is_ours(dir)) {
                snprintf(what, what_size, "%s: %s", dir,
                         errno == EEXIST ? "not this user's alone" : strerror(errno));
                return -EACCES;
        }
        error = place(dir, shims, "libcuda.so.1", "libcuda-driver.so.1");
        if (error == -ENODEV)
                snprintf(what, what_size, "cannot find libcuda.so.1 (the NVIDIA driver)");
        else
                snprintf(what, what_size, "cannot put Takt's libraries of %s into %s", shims, dir);
        if (error)
                return error;
        error = place(dir, shims, "libnvidia-ml.so.1", "libnvidia-ml-driver.so.1");
        return error == -ENODEV ? 0 : error; // a machine may have CUDA without NVML
}
