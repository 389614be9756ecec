// Put before a program's libraries: its wall clock jumps a day ahead and back with every look.
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400

static _Atomic unsigned looks;

static time_t jump(void)
{
        return atomic_fetch_add(&looks, 1) % 2 ? DAY : -DAY;
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
        long error = syscall(SYS_clock_gettime, clock, ret);

        if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI)
                ret->tv_sec += jump();
        return (int)error;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
        struct timespec now;

        (void)zone;
        clock_gettime(CLOCK_REALTIME, &now);
        *ret = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
        return 0;
}

time_t time(time_t *ret)
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        if (ret)
                *ret = now.tv_sec;
        return now.tv_sec;
}
