/**
 * What a running application shows of itself: an MXBean for each served model, events for Flight Recorder, and the
 * sampling of decode steps behind both. Off by default; a step that is not sampled pays for reading a field or two.
 */
@NullMarked
package io.github.tailorkv.live;

import org.jspecify.annotations.NullMarked;
