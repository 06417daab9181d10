/** The system properties, read and validated once. */
@NullMarked
package io.github.tailorkv.config;

import org.jspecify.annotations.NullMarked;
