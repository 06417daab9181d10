/** Tests of the built jar, in JVMs of their own. */
@NullMarked
package io.github.tailorkv.it;

import org.jspecify.annotations.NullMarked;
