/** Memory from the system itself; for the caches of both backends. */
@NullMarked
package io.github.tailorkv.memory;

import org.jspecify.annotations.NullMarked;
