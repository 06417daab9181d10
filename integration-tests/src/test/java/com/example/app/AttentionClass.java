package com.example.app;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.TransformerBlock;
import java.lang.reflect.Field;

/** Looks into a model and prints the classes of its attention and its cache, and who loaded them. */
final class AttentionClass {
    private AttentionClass() {}

    static void print(AbstractModel model) throws ReflectiveOperationException {
        Object[] blocks = (Object[]) value(AbstractModel.class, "transformerBlocks", model);
        Object attention = value(TransformerBlock.class, "attention", blocks[blocks.length - 1]);
        System.out.println("attention: " + attention.getClass().getName());
        System.out.println("cache: " + value(AbstractModel.class, "kvBufferCache", model).getClass().getName());
        System.out.println("loader of Jlama: " + AbstractModel.class.getClassLoader().getClass().getName());
    }

    private static Object value(Class<?> type, String name, Object owner) throws ReflectiveOperationException {
        Field field = type.getDeclaredField(name);
        field.setAccessible(true);
        return field.get(owner);
    }
}
