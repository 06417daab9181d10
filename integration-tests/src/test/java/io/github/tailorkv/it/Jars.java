package io.github.tailorkv.it;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Predicate;
import java.util.jar.Attributes;
import java.util.jar.JarFile;
import java.util.jar.Manifest;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/** Packs jars: applications as their authors would, and whatever else a test puts on a class path. */
final class Jars {
    private Jars() {}

    /** The applications of {@code com.example.app}. */
    static Path application(Path folder) throws IOException {
        return write(folder.resolve("app.jar"), new Manifest(), applicationClasses(""));
    }

    /** An application as Spring Boot's Maven plugin packs it: its launcher at the root, the libraries stored in the jar. */
    static Path springBootApplication(Path folder, String mainClass, List<Path> libraries) throws IOException {
        Manifest manifest = new Manifest();
        Attributes attributes = manifest.getMainAttributes();
        attributes.put(Attributes.Name.MAIN_CLASS, "org.springframework.boot.loader.launch.JarLauncher");
        attributes.putValue("Start-Class", mainClass);
        attributes.putValue("Spring-Boot-Classes", "BOOT-INF/classes/");
        attributes.putValue("Spring-Boot-Lib", "BOOT-INF/lib/");
        Map<String, byte[]> entries = applicationClasses("BOOT-INF/classes/");
        entries.putAll(
                entries(ChildJvm.library("spring-boot-loader"), name -> name.startsWith("org/springframework/")));
        for (Path library : libraries) {
            entries.put("BOOT-INF/lib/" + library.getFileName(), Files.readAllBytes(library));
        }
        return write(folder.resolve("boot-app.jar"), manifest, entries);
    }

    /** Somebody else's agent, see {@link com.example.agent.WitnessAgent}. */
    static Path witnessAgent(Path folder) throws IOException {
        Manifest manifest = new Manifest();
        manifest.getMainAttributes().putValue("Premain-Class", "com.example.agent.WitnessAgent");
        manifest.getMainAttributes().putValue("Agent-Class", "com.example.agent.WitnessAgent");
        manifest.getMainAttributes().putValue("Can-Retransform-Classes", "true");
        return write(folder.resolve("witness.jar"), manifest, classes("com.example.agent", ""));
    }

    /** The files of a jar whose names pass, by name. */
    static Map<String, byte[]> entries(Path jar, Predicate<String> names) throws IOException {
        Map<String, byte[]> entries = new TreeMap<>();
        try (JarFile file = new JarFile(jar.toFile())) {
            for (var entry : file.stream().filter(e -> !e.isDirectory() && names.test(e.getName())).toList()) {
                entries.put(entry.getName(), file.getInputStream(entry).readAllBytes());
            }
        }
        return entries;
    }

    /** The test classes of a package, named as in a jar, each under {@code root}. */
    static Map<String, byte[]> classes(String packageName, String root) throws IOException {
        Map<String, byte[]> entries = new TreeMap<>();
        String folder = packageName.replace('.', '/') + "/";
        Path classes = ChildJvm.TEST_CLASSES.resolve(folder);
        try (Stream<Path> files = Files.list(classes)) {
            for (Path file : files.filter(f -> f.toString().endsWith(".class")).toList()) {
                entries.put(root + folder + file.getFileName(), Files.readAllBytes(file));
            }
        }
        return entries;
    }

    private static Map<String, byte[]> applicationClasses(String root) throws IOException {
        return classes("com.example.app", root);
    }

    /** Writes a jar as a launcher wants it that reads jars in a jar: manifest first, folders named, files stored. */
    static Path write(Path jar, Manifest manifest, Map<String, byte[]> entries) throws IOException {
        manifest.getMainAttributes().put(Attributes.Name.MANIFEST_VERSION, "1.0");
        ByteArrayOutputStream manifestBytes = new ByteArrayOutputStream();
        manifest.write(manifestBytes);
        try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(jar))) {
            zip.setMethod(ZipOutputStream.STORED);
            put(zip, JarFile.MANIFEST_NAME, manifestBytes.toByteArray());
            Set<String> folders = new HashSet<>();
            for (Map.Entry<String, byte[]> entry : entries.entrySet()) {
                putFolders(zip, entry.getKey(), folders);
                put(zip, entry.getKey(), entry.getValue());
            }
        }
        return jar;
    }

    private static void putFolders(ZipOutputStream zip, String name, Set<String> known) throws IOException {
        for (int slash = name.indexOf('/'); slash >= 0; slash = name.indexOf('/', slash + 1)) {
            String folder = name.substring(0, slash + 1);
            if (known.add(folder)) {
                put(zip, folder, new byte[0]);
            }
        }
    }

    private static void put(ZipOutputStream zip, String name, byte[] bytes) throws IOException {
        CRC32 sum = new CRC32();
        sum.update(bytes);
        ZipEntry entry = new ZipEntry(name);
        entry.setSize(bytes.length);
        entry.setCrc(sum.getValue());
        zip.putNextEntry(entry);
        zip.write(bytes);
    }
}
