/** Applications on Jlama that hold no line of TailorKV. */
@NullMarked
package io.github.tailorkv.examples;

import org.jspecify.annotations.NullMarked;
