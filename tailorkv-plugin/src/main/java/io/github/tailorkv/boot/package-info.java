/**
 * How the plugin gets into a JVM that knows nothing of it. Entered by the JVM, and by the one call that is woven into
 * Jlama; the public API goes the same way.
 *
 * <p>No class here names a type of Jlama: these classes may be defined where Jlama cannot be seen. None logs before a
 * model is loaded, for the application's logging may not be set up; they write to standard error instead.
 */
@NullMarked
package io.github.tailorkv.boot;

import org.jspecify.annotations.NullMarked;
