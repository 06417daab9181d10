/** The command-line tools of the jar. Nothing else depends on this package. */
@NullMarked
package io.github.tailorkv.tools;

import org.jspecify.annotations.NullMarked;
