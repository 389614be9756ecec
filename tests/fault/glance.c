// Put before a program's libraries: a look at what has come to a socket shows its first byte only, as if the
// rest came between the look and the read.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
        if (flags & MSG_PEEK)
                size = size > 1 ? 1 : size;
        return syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
}
