#include "cli/shimdir.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/hash.h"
#include "base/put.h"

#define CUDA "libcuda.so.1"
#define CUDA_DRIVER "libcuda-driver.so.1"
#define NVML "libnvidia-ml.so.1"
#define NVML_DRIVER "libnvidia-ml-driver.so.1"

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

// Whether what lies in it stays what its owner made it: nobody else can put something in its place.
static int is_trusted(const char *dir)
{
        struct stat info;

        return dir && dir[0] == '/' && stat(dir, &info) == 0 && S_ISDIR(info.st_mode) &&
               (info.st_uid == geteuid() || info.st_uid == 0) &&
               (!(info.st_mode & 022) || info.st_mode & S_ISVTX);
}

int shim_dir_choose(const char *seat, char *ret_dir, size_t size)
{
        const char *const others[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};

        snprintf(ret_dir, size, "%s/lib", seat);
        if (!takt_put_is_noexec(seat))
                return 0;
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
                if (is_trusted(others[i]) && !takt_put_is_noexec(others[i])) {
                        snprintf(ret_dir, size, "%s/takt-%u-%012lx", others[i], geteuid(),
                                 takt_hash(TAKT_HASH_START, seat, strlen(seat)) >> 16);
                        return 0;
                }
        return -EACCES;
}

// One library of ours in the driver's place, and beside it a link to the driver's own.
static int place(const char *dir, const char *shims, const char *name, const char *driver_name)
{
        char driver[PATH_MAX], whole[PATH_MAX], from[PATH_MAX], to[PATH_MAX];

        if (shim_dir_find(name, driver, sizeof driver) < 0 || !realpath(driver, whole))
                return -ENODEV;
        snprintf(to, sizeof to, "%s/%s", dir, driver_name);
        if (takt_put_link(whole, to) < 0)
                return -EIO;
        snprintf(from, sizeof from, "%s/%s", shims, name);
        snprintf(to, sizeof to, "%s/%s", dir, name);
        // A copy, not a link: the loader knows a library by its inode, and the shim finds its driver by the
        // folder it lies in.
        return takt_put_copy(from, to);
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
        error = place(dir, shims, CUDA, CUDA_DRIVER);
        if (error == -ENODEV)
                snprintf(what, what_size, "cannot find libcuda.so.1 (the NVIDIA driver)");
        else
                snprintf(what, what_size, "cannot put Takt's libraries of %s into %s", shims, dir);
        if (error)
                return error;
        error = place(dir, shims, NVML, NVML_DRIVER);
        return error == -ENODEV ? 0 : error; // a machine may have CUDA without NVML
}
