// Put before a program's libraries: its SCARCE_AT'th allocation fails, and only that. Then the file
// SCARCE_LOG is there. Without SCARCE_AT none does.
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static int fails(void)
{
        static _Atomic long n;
        const char *at = getenv("SCARCE_AT");
        int error = errno;

        if (!at || atomic_fetch_add(&n, 1) + 1 != atol(at))
                return 0;
        close(open(getenv("SCARCE_LOG"), O_CREAT | O_WRONLY, 0600));
        errno = error;
        return 1;
}

#define OR_NOTHING(allocation) (fails() ? (errno = ENOMEM, NULL) : (allocation))

void *malloc(size_t size)
{
        return OR_NOTHING(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
        return OR_NOTHING(__libc_calloc(n, size));
}

void *realloc(void *old, size_t size)
{
        return OR_NOTHING(__libc_realloc(old, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
        return OR_NOTHING(__libc_memalign(alignment, size));
}
