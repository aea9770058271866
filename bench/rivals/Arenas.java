import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * Memory that Java can take back from all its threads: segments of a shared arena, Java 22 and later. Speaks the protocol of
 * bench/baseline/sample.h.
 *
 * <p>java Arenas.java map DIRECTORY BYTES TIMES: maps a file there and closes the arena. Mean of so many in a row.
 *
 * <p>java Arenas.java close DIRECTORY BYTES TIMES: closes arenas whose files' pages have all been written. Mean of so many.
 *
 * <p>java Arenas.java take DIRECTORY BYTES TIMES: the same, and truncates the files, so that the memory is gone for others too.
 */
public final class Arenas {
  private static final int SETTLE_MS = 20;
  private static final long WARM_UP_NS = 1_000_000_000L;

  private static Path directory;
  private static long bytes;
  private static int times;

  private interface Sample {
    double take(int settleMs) throws Exception;
  }

  public static void main(String[] args) throws Exception {
    directory = Path.of(args[1]);
    bytes = Long.parseLong(args[2]);
    times = Integer.parseInt(args[3]);
    boolean truncates = args[0].equals("take");
    serve(args[0].equals("map") ? settleMs -> mapAndClose() : settleMs -> closeAll(settleMs, truncates));
  }

  private static void serve(Sample sample) throws Exception {
    for (long start = System.nanoTime(); System.nanoTime() - start < WARM_UP_NS; ) sample.take(0);
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    while (input.readLine() != null) System.out.println(sample.take(SETTLE_MS));
  }

  private static double mapAndClose() throws IOException {
    try (FileChannel file = file()) {
      long start = System.nanoTime();
      for (int i = 0; i < times; i++) {
        try (Arena arena = Arena.ofShared()) {
          file.map(MapMode.READ_WRITE, 0, bytes, arena);
        }
      }
      return (double) (System.nanoTime() - start) / times;
    }
  }

  private static double closeAll(int settleMs, boolean truncates) throws Exception {
    FileChannel[] files = new FileChannel[times];
    Arena[] arenas = new Arena[times];
    MemorySegment[] segments = new MemorySegment[times];
    for (int i = 0; i < times; i++) {
      files[i] = file();
      arenas[i] = Arena.ofShared();
      segments[i] = files[i].map(MapMode.READ_WRITE, 0, bytes, arenas[i]).fill((byte) 1);
    }
    Thread.sleep(settleMs);
    long start = System.nanoTime();
    for (int i = 0; i < times; i++) {
      arenas[i].close();
      if (truncates) files[i].truncate(0);
    }
    long end = System.nanoTime();
    for (int i = 0; i < times; i++) {
      if (!throwsError(segments[i])) throw new IllegalStateException("a closed arena was read");
      files[i].close();
    }
    return (double) (end - start) / times;
  }

  private static boolean throwsError(MemorySegment segment) {
    try {
      segment.get(ValueLayout.JAVA_BYTE, 0);
      return false;
    } catch (IllegalStateException closed) {
      return true;
    }
  }

  /** Of the right size, and without a name: it is gone when it is closed. */
  private static FileChannel file() throws IOException {
    Path path = Files.createTempFile(directory, "revocable-bench-", ".tmp");
    FileChannel made = FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE);
    Files.delete(path);
    made.write(ByteBuffer.allocate(1), bytes - 1);
    return made;
  }
}
