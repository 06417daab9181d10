/** How the plugin gets into a JVM that knows nothing of it. Entered by the JVM only. */
@NullMarked
package io.github.tailorkv.boot;

import org.jspecify.annotations.NullMarked;
