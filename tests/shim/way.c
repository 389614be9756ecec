// A program that finds CUDA in one way: by a runtime, shared or static (-DRUNTIME), by a library that has the
// static runtime of 11.8 within (-DNVJPEG), or by direct linking with the driver. It allocates a little, and
// twice its quota, which must fail with the API's own error; says so, and waits for a line. Then it launches
// a kernel, says what came of it, and waits for another one.
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BLOCKS (108 * 8 * 500) // a millisecond: what is shorter is no step

#ifdef RUNTIME
struct dim3 {
        unsigned x, y, z;
};

int cudaMalloc(void **pointer, size_t size);
int cudaLaunchKernel(const void *kernel, struct dim3 grid, struct dim3 block, void **arguments, size_t shared,
                     void *stream);
int cudaDeviceSynchronize(void);
void **__cudaRegisterFatBinary(const void *wrapper);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaRegisterFunction(void **handle, const char *stub, char *name, const char *device_name, int limit,
                            void *a, void *b, void *c, void *d, int *e);
#define ALLOCATE(pointer, size) cudaMalloc(pointer, size)

// As nvcc has them: a wrapper, and a binary of which there is only the head.
static const struct {
        unsigned magic;
        unsigned short version, size;
        unsigned long long n_bytes;
} binary = {0xba55ed50, 1, sizeof binary, 0};
static const struct {
        unsigned magic, version;
        const void *binary;
        void *file;
} wrapper = {0x466243b1, 1, &binary, NULL};

static void stub(void)
{
}

static int begin(void)
{
        void **handle = __cudaRegisterFatBinary(&wrapper);
        static char name[] = "kernel";

        __cudaRegisterFunction(handle, (const char *)stub, name, name, -1, NULL, NULL, NULL, NULL, NULL);
        __cudaRegisterFatBinaryEnd(handle);
        return 0;
}

static int work(void)
{
        int error = cudaLaunchKernel((const void *)stub, (struct dim3){BLOCKS, 1, 1},
                                     (struct dim3){256, 1, 1}, NULL, 0, NULL);

        return error ? error : cudaDeviceSynchronize();
}
#elif defined NVJPEG
#define SIDE 64
#define RGB_INTERLEAVED 5
#define HALF_CHROMA 2

struct image {
        void *channel[4];
        size_t pitch[4];
};

int nvjpegGetCudartProperty(int which, int *value); // 0: the major version, 1: the minor one
int nvjpegCreateSimple(void **handle);
int nvjpegSetDeviceMemoryPadding(size_t padding, void *handle);
int nvjpegEncoderStateCreate(void *handle, void **encoder, void *stream);
int nvjpegEncoderParamsCreate(void *handle, void **how, void *stream);
int nvjpegEncoderParamsSetSamplingFactors(void *how, int chroma, void *stream);
int nvjpegEncodeImage(void *handle, void *encoder, void *how, const struct image *source, int format,
                      int width, int height, void *stream);
#define ALLOCATE(pointer, size) allocate(size)

static void *handle, *encoder, *how;

static int begin(void)
{
        int major, minor;

        return nvjpegGetCudartProperty(0, &major) || nvjpegGetCudartProperty(1, &minor) || major != 11 ||
               minor != 8 || nvjpegCreateSimple(&handle) || nvjpegEncoderParamsCreate(handle, &how, NULL) ||
               nvjpegEncoderParamsSetSamplingFactors(how, HALF_CHROMA, NULL);
}

// An encoder has a large buffer, of 16 MiB, and a small one: each becomes a multiple of this size.
static void *make_encoder(void *size)
{
        void *made;
        int error = nvjpegSetDeviceMemoryPadding(*(size_t *)size, handle);

        error = error ? error : nvjpegEncoderStateCreate(handle, &made, NULL);
        if (!error)
                encoder = made;
        return (void *)(intptr_t)error;
}

// In a thread of its own: a refusal stays its thread's last error, which the library would take for its
// kernel's.
static int allocate(size_t size)
{
        pthread_t thread;
        void *error;

        if (pthread_create(&thread, NULL, make_encoder, &size) || pthread_join(thread, &error))
                return -1;
        return (int)(intptr_t)error;
}

// The pixels are nowhere: only kernels would look at them.
static int work(void)
{
        struct image image = {{(void *)1}, {(size_t)3 * SIDE}};
        int error = nvjpegSetDeviceMemoryPadding(1, handle);

        return error ? error
                     : nvjpegEncodeImage(handle, encoder, how, &image, RGB_INTERLEAVED, SIDE, SIDE, NULL);
}
#else
int cuInit(unsigned flags);
int cuDevicePrimaryCtxRetain(void **context, int device);
int cuCtxSetCurrent(void *context);
int cuMemAlloc_v2(void **pointer, size_t size);
int cuModuleLoadData(void **module, const void *image);
int cuModuleGetFunction(void **kernel, void *module, const char *name);
int cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **arguments, void **extra);
int cuCtxSynchronize(void);
#define ALLOCATE(pointer, size) cuMemAlloc_v2(pointer, size)

static void *kernel;

static int begin(void)
{
        void *context, *module;

        return cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context) ||
               cuModuleLoadData(&module, "") || cuModuleGetFunction(&kernel, module, "kernel");
}

static int work(void)
{
        int error = cuLaunchKernel(kernel, BLOCKS, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL);

        return error ? error : cuCtxSynchronize();
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
        fflush(stdout);
        if (getchar() == EOF)
                return 0;
        printf("%d\n", work());
        fflush(stdout);
        getchar();
        return 0;
}
