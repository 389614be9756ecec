// A program that finds CUDA in one way: by the static runtime (-DRUNTIME) or by direct linking with the
// driver. It allocates twice its quota, which must fail with the API's own error, and a little, which must
// not.
#include <stddef.h>
#include <stdio.h>

#ifdef RUNTIME
int cudaMalloc(void **pointer, size_t size);
#define ALLOCATE(pointer, size) cudaMalloc(pointer, size)
static int begin(void)
{
        return 0;
}
#else
int cuInit(unsigned flags);
int cuDevicePrimaryCtxRetain(void **context, int device);
int cuCtxSetCurrent(void *context);
int cuMemAlloc_v2(void **pointer, size_t size);
#define ALLOCATE(pointer, size) cuMemAlloc_v2(pointer, size)
static int begin(void)
{
        void *context;

        return cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context);
}
#endif

int main(void)
{
        void *pointer;
        int much, little;

        if (begin())
                return 1;
        little = ALLOCATE(&pointer, (size_t)1 << 24);
        much = ALLOCATE(&pointer, (size_t)2 << 30);
        printf("%d %d\n", little, much);
        return 0;
}
