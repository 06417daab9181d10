/**
 * The hybrid KV cache: where keys and values lie, which kind a layer is, and the attention over each kind. Entered through
 * {@link io.github.tailorkv.cache.HybridCacheProvider} only; {@link io.github.tailorkv.cache.MemoryEstimate} is for tools.
 */
@NullMarked
package io.github.tailorkv.cache;

import org.jspecify.annotations.NullMarked;
