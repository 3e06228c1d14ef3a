// CPU kernels of the training step, over channels-last tensors seen as rows of 64 numbers: with 16, 32 or 64
// channels, number i of a row always belongs to channel i % channels, so every loop below has a fixed length and
// becomes vector instructions. Built by build.py; nothing but the C++ library is needed.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t kRow = 64;
constexpr int64_t kRowsInFloat = 256;  // rows summed in float before the sum goes on in double

struct bfloat16 {
    uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, 4);
    return result;
}

inline void store(float* place, float value) { *place = value; }

inline void store(bfloat16* place, float value) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    place->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Two sums a channel, over all threads.
struct Sums {
    double first[kRow] = {}, second[kRow] = {};

    void fold(int64_t channels) {
        for (int64_t i = channels; i < kRow; ++i) {
            first[i % channels] += first[i];
            second[i % channels] += second[i];
        }
    }
};

// Run work(begin, end, sums of this thread) over rows, then add up in the order of the threads.
template <typename Work>
Sums summed(int64_t rows, int threads, Work work) {
    std::vector<Sums> parts(threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; ++part) work(rows * part / threads, rows * (part + 1) / threads, parts[part]);
    Sums total;
    for (const Sums& part : parts)
        for (int64_t i = 0; i < kRow; ++i) {
            total.first[i] += part.first[i];
            total.second[i] += part.second[i];
        }
    return total;
}

template <typename T>
Sums moments(const T* x, const float* centre, int64_t rows, int threads) {
    return summed(rows, threads, [=](int64_t begin, int64_t end, Sums& sums) {
        for (int64_t row = begin; row < end;) {
            float first[kRow] = {}, second[kRow] = {};
            for (const int64_t stop = std::min(row + kRowsInFloat, end); row < stop; ++row) {
                const T* from = x + row * kRow;
                for (int64_t i = 0; i < kRow; ++i) {
                    const float value = load(from[i]) - centre[i];
                    first[i] += value;
                    second[i] += value * value;
                }
            }
            for (int64_t i = 0; i < kRow; ++i) {
                sums.first[i] += first[i];
                sums.second[i] += second[i];
            }
        }
    });
}

template <bool kResidual, typename T>
void scaled_relu(const T* x, const T* residual, const float* scale, const float* shift, T* y, int64_t rows, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
#pragma omp simd
        for (int64_t i = 0; i < kRow; ++i) {
            const int64_t at = row * kRow + i;
            const float value = load(x[at]) * scale[i] + shift[i] + (kResidual ? load(residual[at]) : 0.0f);
            store(y + at, value <= 0.0f ? 0.0f : value);  // keeps what is not a number
        }
    }
}

template <typename T>
void forward(const T* x, const T* residual, const float* weight, const float* bias, float* running_mean,
             float* running_var, float momentum, float eps, bool training, T* y, float* mean, float* invstd,
             int64_t rows, int64_t channels, int threads) {
    if (training) {
        float centre[kRow];
        for (int64_t i = 0; i < kRow; ++i) centre[i] = load(x[i % channels]);
        Sums sums = moments(x, centre, rows, threads);
        sums.fold(channels);
        const double count = static_cast<double>(rows * kRow / channels);
        for (int64_t c = 0; c < channels; ++c) {
            const double offset = sums.first[c] / count;
            const double variance = std::max(sums.second[c] / count - offset * offset, 0.0);
            mean[c] = static_cast<float>(centre[c] + offset);
            invstd[c] = static_cast<float>(1.0 / std::sqrt(variance + eps));
            if (!(variance == variance)) invstd[c] = mean[c] = NAN;
            const double unbiased = variance * count / std::max(count - 1.0, 1.0);
            running_mean[c] += momentum * (mean[c] - running_mean[c]);
            running_var[c] += momentum * (static_cast<float>(unbiased) - running_var[c]);
        }
    } else {
        for (int64_t c = 0; c < channels; ++c) {
            mean[c] = running_mean[c];
            invstd[c] = 1.0f / std::sqrt(running_var[c] + eps);
        }
    }
    float scale[kRow], shift[kRow];
    for (int64_t i = 0; i < kRow; ++i) {
        const int64_t c = i % channels;
        scale[i] = weight[c] * invstd[c];
        shift[i] = bias[c] - mean[c] * scale[i];
    }
    if (residual)
        scaled_relu<true>(x, residual, scale, shift, y, rows, threads);
    else
        scaled_relu<false>(x, residual, scale, shift, y, rows, threads);
}

template <bool kResidual, typename T>
Sums gradient_sums(const T* dy, const T* y, const T* x, const float* centre, T* dresidual, int64_t rows, int threads) {
    return summed(rows, threads, [=](int64_t begin, int64_t end, Sums& sums) {
        for (int64_t row = begin; row < end;) {
            float first[kRow] = {}, second[kRow] = {};
            for (const int64_t stop = std::min(row + kRowsInFloat, end); row < stop; ++row) {
#pragma omp simd
                for (int64_t i = 0; i < kRow; ++i) {
                    const int64_t at = row * kRow + i;
                    const float all = load(dy[at]), g = load(y[at]) > 0.0f ? all : 0.0f;
                    if (kResidual) store(dresidual + at, g);
                    first[i] += g;
                    second[i] += g * (load(x[at]) - centre[i]);
                }
            }
            for (int64_t i = 0; i < kRow; ++i) {
                sums.first[i] += first[i];
                sums.second[i] += second[i];
            }
        }
    });
}

template <typename T>
void backward(const T* dy, const T* y, const T* x, const float* weight, const float* mean, const float* invstd,
              bool training, T* dx, T* dresidual, float* dweight, float* dbias, int64_t rows, int64_t channels,
              int threads) {
    float centre[kRow];
    for (int64_t i = 0; i < kRow; ++i) centre[i] = mean[i % channels];
    Sums sums = dresidual ? gradient_sums<true>(dy, y, x, centre, dresidual, rows, threads)
                          : gradient_sums<false>(dy, y, x, centre, dresidual, rows, threads);
    sums.fold(channels);
    const double count = static_cast<double>(rows * kRow / channels);
    float of_g[kRow], of_x[kRow], constant[kRow];
    for (int64_t i = 0; i < kRow; ++i) {
        const int64_t c = i % channels;
        const double along = sums.second[c] * invstd[c];  // the gradient's sum along the normalised values
        dweight[c] = static_cast<float>(along);
        dbias[c] = static_cast<float>(sums.first[c]);
        of_g[i] = weight[c] * invstd[c];
        of_x[i] = training ? static_cast<float>(-of_g[i] * invstd[c] * along / count) : 0.0f;
        constant[i] = training ? static_cast<float>(-of_g[i] * sums.first[c] / count) : 0.0f;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
#pragma omp simd
        for (int64_t i = 0; i < kRow; ++i) {
            const int64_t at = row * kRow + i;
            const float all = load(dy[at]), g = load(y[at]) > 0.0f ? all : 0.0f;
            store(dx + at, of_g[i] * g + of_x[i] * (load(x[at]) - centre[i]) + constant[i]);
        }
    }
}

// Where a pixel comes from: mirrored at the first and last one, which are not doubled, or -1 for black.
inline int64_t source(int64_t place, int64_t size, bool reflect) {
    if (place >= 0 && place < size) return place;
    if (!reflect) return -1;
    const int64_t last = size - 1;
    return std::min(std::max(last - std::abs(last - std::abs(place)), int64_t{0}), last);
}

template <typename T>
void pictures(const uint8_t* images, const float* parameters, int64_t parameter_count, const T* table, T* out,
              int64_t count, int64_t channels, int64_t height, int64_t width, bool shifted, bool reflect,
              int threads) {
    const int64_t plane = height * width;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < count; ++n) {
        const uint8_t* image = images + n * channels * plane;
        T* to = out + n * channels * plane;
        const float* move = parameters + n * parameter_count;
        const bool mirrored = move[0] > 0.0f;
        std::vector<int64_t> columns(width);
        for (int64_t column = 0; column < width; ++column) {
            const int64_t from = source(column + (shifted ? static_cast<int64_t>(move[2]) : 0), width, reflect);
            columns[column] = mirrored && from >= 0 ? width - 1 - from : from;
        }
        for (int64_t row = 0; row < height; ++row) {
            const int64_t from_row = source(row + (shifted ? static_cast<int64_t>(move[1]) : 0), height, reflect);
            const uint8_t* from = image + from_row * width;
            if (channels == 3 && !shifted) {
                const uint8_t *green = from + plane, *blue = green + plane;
                for (int64_t column = 0; column < width; ++column, to += 3) {
                    const int64_t at = mirrored ? width - 1 - column : column;
                    to[0] = table[from[at]];
                    to[1] = table[256 + green[at]];
                    to[2] = table[512 + blue[at]];
                }
            } else {
                for (int64_t column = 0; column < width; ++column)
                    for (int64_t c = 0; c < channels; ++c) {
                        const bool inside = from_row >= 0 && columns[column] >= 0;
                        *to++ = table[256 * c + (inside ? from[c * plane + columns[column]] : 0)];
                    }
            }
        }
    }
}

}  // namespace

extern "C" {

void metasiam_forward(int bf16, const void* x, const void* residual, const float* weight, const float* bias,
                      float* running_mean, float* running_var, float momentum, float eps, int training, void* y,
                      float* mean, float* invstd, int64_t rows, int64_t channels, int threads) {
    if (bf16)
        forward(static_cast<const bfloat16*>(x), static_cast<const bfloat16*>(residual), weight, bias, running_mean,
                running_var, momentum, eps, training, static_cast<bfloat16*>(y), mean, invstd, rows, channels, threads);
    else
        forward(static_cast<const float*>(x), static_cast<const float*>(residual), weight, bias, running_mean,
                running_var, momentum, eps, training, static_cast<float*>(y), mean, invstd, rows, channels, threads);
}

void metasiam_backward(int bf16, const void* dy, const void* y, const void* x, const float* weight, const float* mean,
                       const float* invstd, int training, void* dx, void* dresidual, float* dweight, float* dbias,
                       int64_t rows, int64_t channels, int threads) {
    if (bf16)
        backward(static_cast<const bfloat16*>(dy), static_cast<const bfloat16*>(y), static_cast<const bfloat16*>(x),
                 weight, mean, invstd, training, static_cast<bfloat16*>(dx), static_cast<bfloat16*>(dresidual), dweight,
                 dbias, rows, channels, threads);
    else
        backward(static_cast<const float*>(dy), static_cast<const float*>(y), static_cast<const float*>(x), weight,
                 mean, invstd, training, static_cast<float*>(dx), static_cast<float*>(dresidual), dweight, dbias, rows,
                 channels, threads);
}

void metasiam_pictures(int bf16, const uint8_t* images, const float* parameters, int64_t parameter_count,
                       const void* table, void* out, int64_t count, int64_t channels, int64_t height, int64_t width,
                       int shifted, int reflect, int threads) {
    if (bf16)
        pictures(images, parameters, parameter_count, static_cast<const bfloat16*>(table), static_cast<bfloat16*>(out),
                 count, channels, height, width, shifted, reflect, threads);
    else
        pictures(images, parameters, parameter_count, static_cast<const float*>(table), static_cast<float*>(out), count,
                 channels, height, width, shifted, reflect, threads);
}
}
