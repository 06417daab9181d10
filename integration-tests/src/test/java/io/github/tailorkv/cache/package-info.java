/** A door for benchmarks into the plugin's package of the same name. */
@NullMarked
package io.github.tailorkv.cache;

import org.jspecify.annotations.NullMarked;
