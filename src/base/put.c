#include "base/put.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int name_new(const char *to, char new[static PATH_MAX])
{
        if (snprintf(new, PATH_MAX, "%s.new", to) >= PATH_MAX)
                return -ENAMETOOLONG;
        unlink(new); // of one that was killed here
        return 0;
}

static int copy_bytes(const char *from, const char *to)
{
        char bytes[65536];
        FILE *in = fopen(from, "re"), *out = in ? fopen(to, "wxe") : NULL;
        int error = out ? 0 : -errno;
        size_t n;

        while (!error && (n = fread(bytes, 1, sizeof bytes, in)) > 0)
                if (fwrite(bytes, 1, n, out) < n)
                        error = -errno;
        if (!error && ferror(in))
                error = -EIO;
        if (out && fclose(out) && !error)
                error = -errno;
        if (in)
                fclose(in);
        return error;
}

// Whatever happened, nothing new is left beside the place.
static int put(const char *new, const char *to, int error)
{
        if (!error && rename(new, to) < 0)
                error = -errno;
        if (error)
                unlink(new);
        return error;
}

int takt_put_copy(const char *from, const char *to)
{
        char new[PATH_MAX];
        int error = name_new(to, new);

        if (error)
                return error;
        error = copy_bytes(from, new);
        if (!error && chmod(new, 0755) < 0)
                error = -errno;
        return put(new, to, error);
}

int takt_put_link(const char *target, const char *to)
{
        char new[PATH_MAX];
        int error = name_new(to, new);

        return error ? error : put(new, to, symlink(target, new) < 0 ? -errno : 0);
}

int takt_put_is_noexec(const char *dir)
{
        struct statvfs about;

        return statvfs(dir, &about) == 0 && about.f_flag & ST_NOEXEC;
}
