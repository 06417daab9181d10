/** What {@code evaluate} does: exercises, policies side by side, results that survive an interruption, and their summary. */
@NullMarked
package io.github.tailorkv.tools.evaluate;

import org.jspecify.annotations.NullMarked;
