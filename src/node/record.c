#include "node/record.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "node/limits.h"

struct record_file *record_open(const char *dir)
{
        char path[128];
        void *file = MAP_FAILED;
        int fd, error;

        snprintf(path, sizeof path, "%s/leases", dir);
        unlink(path); // who reads the last daemon's goes on reading that
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        error = fd < 0 ? errno : posix_fallocate(fd, 0, sizeof(struct record_file));
        // All of it now: a full disk is found here, not by a store.
        if (!error) {
                file = mmap(NULL, sizeof(struct record_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                error = errno;
        }
        if (fd >= 0)
                close(fd);
        if (file == MAP_FAILED) {
                fprintf(stderr, "taktd: %s: %s: who held which device is not recorded\n", path,
                        strerror(error));
                return unlink(path), NULL;
        }
        ((struct record_file *)file)->magic = RECORD_MAGIC;
        return file;
}

void record_close(const char *dir)
{
        char path[128];

        snprintf(path, sizeof path, "%s/leases", dir);
        unlink(path);
}

_Static_assert(NODE_TENANTS_MAX <= UINT8_MAX + 1 && CORE_DEVICES_MAX <= UINT8_MAX + 1,
               "a record has a byte for each");

void record_add(struct record_file *file, enum record_kind kind, uint32_t tenant, uint32_t device,
                uint64_t at_ns)
{
        if (!file)
                return;
        file->record[file->n % RECORD_ROOM] =
                (struct record){at_ns, (uint8_t)kind, (uint8_t)tenant, (uint8_t)device, {0}};
        file->n++;
}
