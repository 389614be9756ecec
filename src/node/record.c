#include "node/record.h"
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct record_file *record_open(const char *dir)
{
        char path[128];
        void *file = MAP_FAILED;
        int fd;

        snprintf(path, sizeof path, "%s/leases", dir);
        unlink(path); // who reads the last daemon's goes on reading that
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return NULL;
        // All of it now: a full disk is found here, not by a store.
        if (posix_fallocate(fd, 0, sizeof(struct record_file)) == 0)
                file = mmap(NULL, sizeof(struct record_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (file == MAP_FAILED)
                return unlink(path), NULL;
        ((struct record_file *)file)->magic = RECORD_MAGIC;
        return file;
}

void record_close(const char *dir)
{
        char path[128];

        snprintf(path, sizeof path, "%s/leases", dir);
        unlink(path);
}

void record_add(struct record_file *file, enum record_kind kind, uint32_t tenant, uint32_t device,
                uint64_t at_ns)
{
        if (!file)
                return;
        file->record[file->n % RECORD_ROOM] =
                (struct record){at_ns, (uint8_t)kind, (uint8_t)tenant, (uint8_t)device, {0}};
        file->n++;
}
