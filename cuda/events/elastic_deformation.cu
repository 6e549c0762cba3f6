// Elastic deformation of images: the four corners of an image are moved by random distances, everything between them by
// bilinear interpolation. A block per image. The distances follow from (seed, epoch, sample) alone, so they do not depend on the
// batch an image is in, and a captured step draws new ones when the epoch, which lies on the device, has changed.
#include "common/philox.cuh"

// (The template parameter is unused: every kernel of the project is named by its precision.)
template <typename real>
__global__ void __launch_bounds__(256) elastic_deformation(
        const unsigned char* __restrict__ images,  // [n, height, width]
        const int* __restrict__ indices,           // [B]: the images to deform
        const long long* __restrict__ epoch,       // [1]
        unsigned long long seed, double sigma, int height, int width,
        unsigned char* __restrict__ out) {         // [B, height, width]
    __shared__ double moved[2][4];                 // along rows and columns, of the corners (0, 0), (0, 1), (1, 0), (1, 1)
    const size_t b = blockIdx.x;
    const int sample = indices[b];
    if (threadIdx.x < 2) {
        const int axis = threadIdx.x;
        const Philox random = philox(sample, (unsigned)epoch[0], (unsigned)(epoch[0] >> 32), axis, (unsigned)seed, (unsigned)(seed >> 32));
        for (int half = 0; half < 2; ++half) {
            const double2 pair = normal_pair(random.value[2 * half], random.value[2 * half + 1]);
            moved[axis][2 * half] = sigma * pair.x;
            moved[axis][2 * half + 1] = sigma * pair.y;
        }
    }
    __syncthreads();
    const unsigned char* image = images + (size_t)sample * height * width;
    for (int p = threadIdx.x; p < height * width; p += blockDim.x) {
        const int row = p / width, column = p % width;
        const double v = height > 1 ? (double)row / (height - 1) : 0, u = width > 1 ? (double)column / (width - 1) : 0;
        double place[2];
#pragma unroll
        for (int axis = 0; axis < 2; ++axis) {
            const double* d = moved[axis];
            place[axis] = (1 - v) * ((1 - u) * d[0] + u * d[1]) + v * ((1 - u) * d[2] + u * d[3]);
        }
        const double y = row + place[0], x = column + place[1], y0 = floor(y), x0 = floor(x);
        double value = 0.5;  // rounds to the nearest
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
            const double yc = y0 + corner / 2, xc = x0 + corner % 2;
            if (yc < 0 || yc >= height || xc < 0 || xc >= width) continue;  // black outside
            value += (1 - fabs(y - yc)) * (1 - fabs(x - xc)) * image[(int)yc * width + (int)xc];
        }
        out[b * height * width + p] = (unsigned char)value;
    }
}
