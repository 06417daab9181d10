/** How fast it is: whole models against stock Jlama ({@link io.github.tailorkv.bench.EndToEnd}). */
@NullMarked
package io.github.tailorkv.bench;

import org.jspecify.annotations.NullMarked;
