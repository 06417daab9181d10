/**
 * The bridge to Jlama: the only package that knows its types. It replaces the attention and the KV cache of a loaded model
 * and keeps the sessions; what the sessions hold and how attention is computed is behind {@code io.github.tailorkv.spi}.
 */
@NullMarked
package io.github.tailorkv.jlama;

import org.jspecify.annotations.NullMarked;
