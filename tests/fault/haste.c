// Put before a program's libraries: its minutes have 100 ms.
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static void hasten(struct timeval *time)
{
        if (time->tv_sec == 60)
                *time = (struct timeval){0, 100000};
}

int setitimer(__itimer_which_t which, const struct itimerval *restrict set, struct itimerval *restrict old)
{
        struct itimerval soon = *set;

        hasten(&soon.it_value);
        hasten(&soon.it_interval);
        return (int)syscall(SYS_setitimer, which, &soon, old);
}
