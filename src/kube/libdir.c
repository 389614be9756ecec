#include "kube/libdir.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/put.h"

// Where container runtimes put the driver's libraries: the folder that Debian's loader looks in.
#ifdef __aarch64__
#define IMAGE_DRIVER_DIR "/usr/lib/aarch64-linux-gnu"
#else
#define IMAGE_DRIVER_DIR "/usr/lib/x86_64-linux-gnu"
#endif

// What is there already stays: the disk may be full, and without its driver no program there begins.
static int link_to(const char *driver, const char *to)
{
        char now[PATH_MAX];
        ssize_t n = readlink(to, now, sizeof now - 1);

        now[n > 0 ? n : 0] = 0;
        return strcmp(now, driver) ? takt_put_link(driver, to) : 0;
}

static int place(const char *lib, const char *shims, const char *name, const char *driver_name,
                 const char *driver)
{
        char from[PATH_MAX], to[PATH_MAX], real[PATH_MAX];

        snprintf(from, sizeof from, "%s/%s", shims, name);
        snprintf(to, sizeof to, "%s/%s", lib, name);
        if (takt_put_copy(from, to) < 0) {
                if (access(from, R_OK) < 0 || access(to, R_OK) < 0)
                        return -ENOENT;
                fprintf(stderr, "taktd: %s: no room for it: the one that is there stays\n", to);
        }
        snprintf(to, sizeof to, "%s/%s", lib, driver_name);
        snprintf(real, sizeof real, "%s/%s", driver, name);
        return link_to(real, to); // the container's path, and so perhaps none of ours
}

static int find_shims(char *path, size_t size)
{
        static const char *const places[] = {"../shim", "../lib/takt"};
        char home[PATH_MAX - 16];
        ssize_t n = readlink("/proc/self/exe", home, sizeof home - 1);

        home[n > 0 ? n : 0] = 0;
        if (!strrchr(home, '/'))
                return -ENOENT;
        *strrchr(home, '/') = 0;
        for (int i = 0; i < 2; i++) {
                snprintf(path, size, "%s/%s", home, places[i]);
                if (access(path, R_OK) == 0)
                        return 0;
        }
        return -ENOENT;
}

static int make(const char *lib, const char *shims, const char *driver, char *why, size_t size)
{
        char found[PATH_MAX] = "";

        if (shims[0])
                snprintf(found, sizeof found, "%s", shims);
        else
                find_shims(found, sizeof found);
        if (mkdir(lib, 0755) < 0 && errno != EEXIST)
                return snprintf(why, size, "%s: %s", lib, strerror(errno)), -EIO;
        if (takt_put_is_noexec(lib)) // some runtimes keep that in the container
                return snprintf(why, size, "%s is mounted noexec (set takt.lib)", lib), -EACCES;
        if (place(lib, found, "libcuda.so.1", "libcuda-driver.so.1", driver) < 0 ||
            place(lib, found, "libnvidia-ml.so.1", "libnvidia-ml-driver.so.1", driver) < 0)
                return snprintf(why, size, "no shims in \"%s\", or no room in %s", found, lib), -ENOENT;
        return 0;
}

void libdir_make(const char *dir, const char *shims, struct injection *injection)
{
        const char *driver = injection->driver[0] ? RECIPE_DRIVER_DIR : IMAGE_DRIVER_DIR;
        char why[2 * PATH_MAX];

        if (!injection->lib[0])
                snprintf(injection->lib, sizeof injection->lib, "%s/lib", dir);
        if (make(injection->lib, shims, driver, why, sizeof why) == 0)
                return;
        fprintf(stderr, "taktd: %s: containers run without the shims, and so are not scheduled\n", why);
        injection->lib[0] = 0;
}
