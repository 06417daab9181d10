/**
 * Tasks over long texts with known answers, after the families of RULER (Hsieh et al., 2024). The same seed, family, length
 * and index give the same task in every run and on every machine.
 */
@NullMarked
package io.github.tailorkv.tools.tasks;

import org.jspecify.annotations.NullMarked;
