/** The public API, for applications that install TailorKV by a line of code instead of a JVM option. */
@NullMarked
package io.github.tailorkv;

import org.jspecify.annotations.NullMarked;
