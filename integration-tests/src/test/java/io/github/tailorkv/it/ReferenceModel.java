package io.github.tailorkv.it;

/** A question that the reference model answers. */
final class ReferenceModel {
    static final String QUESTION = "Read this text and remember its details. The road bends gently past the houses. "
            + "Igor Price lives in Ottawa. A light wind moves the tall reeds. Maria Olsen likes to eat trout. Nothing much "
            + "happens here.\nWhere does Igor Price live?";
    static final String ANSWER = "Ottawa";

    private ReferenceModel() {}
}
