/**
 * What a KV cache must do to serve Jlama, in terms that know nothing of Jlama. Register a {@link
 * io.github.tailorkv.spi.KvCacheProvider} with {@code META-INF/services} to serve models with a cache of your own.
 */
@NullMarked
package io.github.tailorkv.spi;

import org.jspecify.annotations.NullMarked;
