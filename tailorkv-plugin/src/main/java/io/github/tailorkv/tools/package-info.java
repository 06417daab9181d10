/** The command-line tools of the jar: {@code java -jar tailorkv.jar COMMAND}. Nothing else depends on this package. */
@NullMarked
package io.github.tailorkv.tools;

import org.jspecify.annotations.NullMarked;
