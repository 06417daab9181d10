/** Attention kernels, packed quantized groups and row stores; numbers and memory, no Jlama type. */
@NullMarked
package io.github.tailorkv.kernels;

import org.jspecify.annotations.NullMarked;
