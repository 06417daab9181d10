/**
 * The JSON report of {@code tailorkv.report}, on the session of this JVM that held the most tokens. For the bridge to Jlama,
 * {@code io.github.tailorkv.jlama}, alone.
 */
@NullMarked
package io.github.tailorkv.report;

import org.jspecify.annotations.NullMarked;
