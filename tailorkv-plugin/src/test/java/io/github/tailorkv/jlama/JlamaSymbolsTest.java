package io.github.tailorkv.jlama;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.MoEBlock;
import com.github.tjake.jlama.tensor.KvBufferCache;
import java.io.IOException;
import java.io.InputStream;
import java.lang.classfile.ClassElement;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassTransform;
import java.lang.classfile.FieldModel;
import java.lang.classfile.MethodModel;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;

class JlamaSymbolsTest {
    /** Another Jlama, and this package above it: members are missing, or a whole class. */
    private static final class AnotherJlama extends ClassLoader {
        private final Predicate<ClassElement> missing;
        private final Set<String> missingClasses;

        AnotherJlama(Predicate<ClassElement> missing, String... missingClasses) {
            super(JlamaSymbolsTest.class.getClassLoader());
            this.missing = missing;
            this.missingClasses = Set.of(missingClasses);
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            if (!name.startsWith("com.github.tjake.jlama.") && !name.startsWith("io.github.tailorkv.jlama.")) {
                return super.loadClass(name, resolve);
            }
            if (missingClasses.contains(name)) {
                throw new ClassNotFoundException(name);
            }
            synchronized (getClassLoadingLock(name)) {
                Class<?> known = findLoadedClass(name);
                return known != null ? known : define(name);
            }
        }

        private Class<?> define(String name) throws ClassNotFoundException {
            try (InputStream file = getResourceAsStream(name.replace('.', '/') + ".class")) {
                if (file == null) {
                    throw new ClassNotFoundException(name);
                }
                byte[] bytes = file.readAllBytes();
                if (name.startsWith("com.github.")) {
                    ClassFile classFile = ClassFile.of();
                    bytes = classFile.transformClass(classFile.parse(bytes), ClassTransform.dropping(missing));
                }
                return defineClass(name, bytes, 0, bytes.length);
            } catch (IOException e) {
                throw new ClassNotFoundException(name, e);
            }
        }

        List<String> install() throws ReflectiveOperationException {
            Class<?> installer = loadClass(Installer.class.getName());
            try (LogLines log = new LogLines()) {
                installer.getMethod("install", Object.class).invoke(null, new Object());
                return log.lines();
            }
        }
    }

    private static boolean isField(ClassElement element, String name) {
        return element instanceof FieldModel field && field.fieldName().equalsString(name);
    }

    private static boolean isMethod(ClassElement element, String name) {
        return element instanceof MethodModel method && method.methodName().equalsString(name);
    }

    @Test
    void areAllInTheReleaseThatWeWereBuiltFor() {
        assertDoesNotThrow(JlamaSymbols::resolve);
    }

    @Test
    void completeJlamaIsAccepted() throws ReflectiveOperationException {
        assertEquals(List.of(), new AnotherJlama(element -> false).install());
    }

    @Test
    void missingMembersAreToldInOneLine() throws ReflectiveOperationException {
        List<String> lines = new AnotherJlama(element -> isField(element, "kvBufferCache")
                || isField(element, "postFFNorm")
                || isMethod(element, "dotProductBatchChunk")).install();
        assertEquals(1, lines.size(), lines::toString);
        String line = lines.getFirst();
        assertTrue(line.startsWith("WARNING TailorKV stands aside: it was built for Jlama 0.8.4"), line);
        assertTrue(line.contains("KvBufferCache AbstractModel.kvBufferCache"), line);
        assertTrue(line.contains("Optional TransformerBlock.postFFNorm"), line);
        assertTrue(line.contains("TensorOperations.dotProductBatchChunk(AbstractTensor[], AbstractTensor"), line);
    }

    @Test
    void missingClassIsToldInOneLine() throws ReflectiveOperationException {
        for (Class<?> type : List.of(MoEBlock.class, KvBufferCache.class)) {
            List<String> lines = new AnotherJlama(element -> false, type.getName()).install();
            assertEquals(1, lines.size(), lines::toString);
            assertTrue(lines.getFirst().contains(type.getName().replace('.', '/')), lines::toString);
        }
    }
}
