/**
 * Other ways to make a KV cache small, behind the same SPI, for comparison only: {@code evaluate --policy
 * NAME=provider=streaming,sinks=4,recent=1020} for sinks and a recent window, {@code NAME=provider=snapkv,budget=992} for
 * eviction by the attention of the prompt's end. Uniform quantization, as KIVI has it, is {@code policy=quantize}.
 */
@NullMarked
package io.github.tailorkv.rivals;

import org.jspecify.annotations.NullMarked;
