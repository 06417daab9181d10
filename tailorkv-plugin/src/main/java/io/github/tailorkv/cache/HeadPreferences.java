package io.github.tailorkv.cache;

import java.util.List;

/** A session that knows how densely each query head attends, for those who look at a model. */
public interface HeadPreferences {

    /** By layer, then query head, the dense preference in [0, 1]; a layer that was not judged has none. */
    List<List<Double>> headPreferences();
}
