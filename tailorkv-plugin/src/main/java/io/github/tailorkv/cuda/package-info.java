/**
 * The hybrid KV cache on an NVIDIA GPU: the same layers, settings and results as {@code cache}, with quantized layers and
 * the channel index in GPU memory and offloaded rows in pinned host memory, read by the GPU itself. The kernels are in
 * {@code tailorkv-kernels/src/main/cuda}. Entered through {@link io.github.tailorkv.cuda.CudaBackend} only; JCuda is
 * touched by {@code JCudaGpu} alone, and only when this backend is asked for.
 */
@NullMarked
package io.github.tailorkv.cuda;

import org.jspecify.annotations.NullMarked;
