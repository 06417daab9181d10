/**
 * JSON as strict as RFC 8259 has it, of our own: in a fat jar our classes may not see the application's library. For
 * profiles, reports and results, so objects keep their order and numbers are doubles.
 */
@NullMarked
package io.github.tailorkv.json;

import org.jspecify.annotations.NullMarked;
