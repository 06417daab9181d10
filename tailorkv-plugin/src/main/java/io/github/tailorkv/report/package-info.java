/** The JSON report of {@code tailorkv.report}: what the largest session of this JVM held. */
@NullMarked
package io.github.tailorkv.report;

import org.jspecify.annotations.NullMarked;
