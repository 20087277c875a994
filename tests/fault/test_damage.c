/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage: copies of a store with known contents, each with one record of one
 * kind flipped, zeroed, overwritten, cut, duplicated, swapped, put elsewhere
 * or shifted, or one file gone, emptied, exchanged, doubled or replaced by an
 * older version of itself. Whatever was done to it, a copy that opens shows
 * what was stored, or an error; it does not crash, hang, or take much memory;
 * what may happen for which kind is the table below, which docs/testing.md
 * shows. Every FSCK_EVERYth copy also goes through fsck: damage that was seen
 * is told, and what -y leaves behind is again never wrong.
 *
 *   test_damage [SEED [STATES [KIND [v]]]]   deterministic for a seed
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "balefs/le.h"
#include "damage_parts.h"
#include "fs/base/crc32c.h"
#include "fs/base/log.h"
#include "tools/cmd.h"

enum { SECONDS_MAX = 60, MEMORY_MAX = 1 << 30, FSCK_EVERY = 5 };

/* Where the copy comes from. */
enum variant {
	V_MARKED,  /* closed; the index is taken as it is */
	V_CLOSED,  /* closed; the index is audited (its mark does not fit) */
	V_CRASHED, /* left open: the log has more than the index */
	V_NOINDEX, /* closed; no index */
	NR_VARIANTS,
};

enum outcome {
	GOOD,	 /* all is there: mended, rebuilt, or it did not matter */
	EIO_,	 /* errors where the damage is, the rest is right */
	OLDER,	 /* as it was before the last commits */
	REFUSED, /* does not open */
	WRONG,
	CRASHED,
	HUNG,
	NR_OUTCOMES,
};
enum { G = 1 << GOOD, E = 1 << EIO_, O = 1 << OLDER, R = 1 << REFUSED };

/*
 * May happen: while the index has everything, and while the log is needed.
 * OLDER is possible only where nothing in the store can tell a damaged end of
 * the log from a torn one, or an old file from a current one.
 */
static const struct {
	const char *text;
	uint8_t indexed, logged;
} kinds[DM_NR_KINDS] = {
#define X(name, text) [DM_##name] = { text, 0, 0 },
	DM_KINDS(X)
#undef X
};
static const struct {
	uint8_t indexed, logged;
} may[DM_NR_KINDS] = {
	[DM_super] = { G, G },
	[DM_supers] = { G | R, G | R },
	[DM_log_head] = { G, G | R },
	[DM_log_body] = { G, G | R },
	[DM_log_last] = { G, G | O },
	[DM_log_tail] = { G, G },
	[DM_log_file] = { G | R, G | O | R },
	[DM_ckpt_head] = { G, G },
	[DM_ckpt_chunk] = { G, G },
	[DM_ckpt_end] = { G, G },
	[DM_ckpt_file] = { G, G },
	[DM_bale_head] = { G, G },
	[DM_bale_desc] = { G, G },
	[DM_payload] = { G | E, G | E },
	[DM_seg_file] = { G | E, G | E },
	[DM_index] = { G, G },
	[DM_index_rot] = { G, G },
	[DM_index_file] = { G, G },
	[DM_mark] = { G, G },
	[DM_other] = { G, G },
};

/* What was moved or cut took others along: as if done to the whole file. */
static const enum dm_kind whole[DM_NR_KINDS] = {
	[DM_super] = DM_super,
	[DM_supers] = DM_supers,
	[DM_log_head] = DM_log_file,
	[DM_log_body] = DM_log_file,
	[DM_log_last] = DM_log_file,
	[DM_log_tail] = DM_log_file,
	[DM_log_file] = DM_log_file,
	[DM_ckpt_head] = DM_ckpt_file,
	[DM_ckpt_chunk] = DM_ckpt_file,
	[DM_ckpt_end] = DM_ckpt_file,
	[DM_ckpt_file] = DM_ckpt_file,
	[DM_bale_head] = DM_seg_file,
	[DM_bale_desc] = DM_seg_file,
	[DM_payload] = DM_seg_file,
	[DM_seg_file] = DM_seg_file,
	[DM_index] = DM_index,
	[DM_index_rot] = DM_index_rot,
	[DM_index_file] = DM_index_file,
	[DM_mark] = DM_mark,
	[DM_other] = DM_other,
};

struct tally {
	unsigned int states, outcome[NR_OUTCOMES], fsck;
};
static struct tally tally[DM_NR_KINDS];
static struct dm_image images[NR_VARIANTS];
static struct dm_parts parts[NR_VARIANTS];
static struct dm_image stale;
static struct dm_served *served; /* shared with the child */
static char work[64], state_dir[80], out_file[80];
static unsigned int failures;
static bool verbose; /* children may speak */

static void fail(const char *label, const char *what)
{
	if (failures++ < 30)
		fprintf(stderr, "FAIL %s: %s\n", label, what);
}

/* ---- children ---- */

/* Private memory; a sanitizer's shadow is far beyond it. */
static bool is_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#elif defined(__has_feature)
	return __has_feature(address_sanitizer) ||
	       __has_feature(thread_sanitizer) ||
	       __has_feature(memory_sanitizer);
#else
	return false;
#endif
}

static void limit_child(void)
{
	struct rlimit l = { MEMORY_MAX, MEMORY_MAX };

	if (!is_sanitized())
		setrlimit(RLIMIT_DATA, &l);
	alarm(SECONDS_MAX);
	if (!verbose && !freopen("/dev/null", "w", stderr))
		_exit(99);
}

/* Exit status, or 1000 + signal. */
static int wait_child(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		exit(1);
	return WIFEXITED(status) ? WEXITSTATUS(status) :
				   1000 + WTERMSIG(status);
}

static enum outcome serve(unsigned int how)
{
	pid_t pid;
	int r;

	memset(served, 0, sizeof(*served));
	fflush(NULL);
	pid = fork();
	if (!pid) {
		limit_child();
		dm_serve(state_dir, how, served);
		_exit(0);
	}
	r = wait_child(pid);
	if (r == 1000 + SIGALRM)
		return HUNG;
	if (r || !served->done)
		return CRASHED;
	if (served->opened)
		return REFUSED;
	if (served->wrong)
		return WRONG;
	if (served->moment != dm_nr_moments() - 1)
		return OLDER;
	return served->errors ? EIO_ : GOOD;
}

static int run_fsck(const char *a, const char *b, const char *c)
{
	char *argv[] = { (char *)"fsck.balefs",
			 (char *)a,
			 (char *)b,
			 (char *)c,
			 state_dir,
			 NULL };
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		int fd = open(out_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		limit_child();
		dup2(fd, 1);
		dup2(fd, 2);
		optind = 0;
		_exit(bale_cmd_fsck.fn(&bale_cmd_fsck, 5, argv));
	}
	return wait_child(pid);
}

/* ---- one state ---- */

struct mark {
	uint8_t magic[8], uuid[16];
	le64 ino, size, mtime_sec, ctime_sec;
	le32 mtime_nsec, ctime_nsec, summed, sum, reserved, crc;
};

/* As index.c leaves it at a clean end of the undamaged index: nothing that
 * fstat tells betrays the damage. */
static void fit_mark(void)
{
	struct mark d = { .magic = "BALEclen", .summed = le32_put(1) };
	struct dm_image *m = &images[V_MARKED];
	struct dm_file *good = dm_image_find(m, "index/data.mdb");
	char path[128];
	struct stat st;
	int fd;

	memcpy(d.uuid, dm_image_find(m, "super.0")->data + 16, 16);
	snprintf(path, sizeof(path), "%s/index/data.mdb", state_dir);
	if (stat(path, &st))
		return;
	d.ino = le64_put(st.st_ino);
	d.size = le64_put((uint64_t)st.st_size);
	d.mtime_sec = le64_put((uint64_t)st.st_mtim.tv_sec);
	d.mtime_nsec = le32_put((uint32_t)st.st_mtim.tv_nsec);
	d.ctime_sec = le64_put((uint64_t)st.st_ctim.tv_sec);
	d.ctime_nsec = le32_put((uint32_t)st.st_ctim.tv_nsec);
	d.sum = le32_put(bale_crc32c(0, good->data, good->len));
	d.crc = le32_put(bale_crc32c(0, &d, sizeof(d) - 4));
	snprintf(path, sizeof(path), "%s/index/clean", state_dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, &d, sizeof(d)) != sizeof(d))
		exit(1);
	close(fd);
}

static void write_state(const struct dm_image *m, enum variant v,
			enum dm_kind kind)
{
	dm_remove_tree(state_dir);
	dm_image_write(m, state_dir);
	if (v == V_MARKED && kind != DM_mark && kind != DM_index)
		fit_mark();
}

/* Only files that lie in the damaged place may fail. */
static bool named_rightly(const struct dm_part *p)
{
	for (unsigned int k = 0; k < served->nr_bad; k++) {
		bool owner = false;

		for (unsigned int n = 0; n < p->nr_ino && !owner; n++)
			owner = p->ino[n] == served->bad[k];
		if (!owner)
			return false;
	}
	return true;
}

static void check_fsck(const struct dm_image *m, enum variant v,
		       enum dm_kind kind, enum outcome before,
		       const char *label)
{
	char text[256];
	int told, mended, again;
	enum outcome after;

	write_state(m, v, kind);
	told = run_fsck("-n", "-f", "--deep");
	mended = run_fsck("-y", "-f", "--deep");
	again = run_fsck("-n", "-f", "--deep");
	after = serve(0);
	tally[kind].fsck++;
	snprintf(text, sizeof(text),
		 "fsck -n %d, -y %d, -n %d, served before %d, after %d %s",
		 told, mended, again, before, after, served->what);
	if (told >= 1000 || mended >= 1000 || again >= 1000)
		fail(label, text);
	else if ((before == EIO_ || before == REFUSED) && !told)
		fail(label, text);
	else if (after > REFUSED || (after == REFUSED && !(mended & 12)))
		fail(label, text);
	else if (after == EIO_ && !(again & 4))
		fail(label, text);
	else if (!(mended & 12) && again)
		fail(label, text);
}

static void one_state(enum dm_kind kind, enum variant v, uint64_t *rng,
		      unsigned int nr)
{
	static const unsigned int hows[] = { 0, 0, DM_READ_ONLY, DM_UNTRUSTED,
					     DM_UNTRUSTED | DM_READ_ONLY };
	unsigned int how = hows[dm_draw(rng, 5)];
	static const char *const v_names[] = { "marked", "closed", "crashed",
					       "no index" };
	const struct dm_part *p;
	char label[320], what[160], text[256];
	bool logged = v == V_CRASHED || v == V_NOINDEX || how & DM_UNTRUSTED;
	struct dm_image m;
	enum outcome got;
	enum dm_kind as;
	bool spills;

	dm_image_copy(&m, &images[v]);
	if (!dm_damage(&m, &parts[v], &stale, kind, rng, &p, &spills, what)) {
		dm_image_free(&m);
		return;
	}
	write_state(&m, v, kind);
	got = serve(how);
	tally[kind].states++;
	tally[kind].outcome[got]++;
	snprintf(label, sizeof(label), "%s, %s, how %u: %s", kinds[kind].text,
		 v_names[v], how, what);
	snprintf(text, sizeof(text),
		 "outcome %d, moment %u of %u, error %d: %s", got,
		 served->moment, dm_nr_moments() - 1, served->opened,
		 served->what);
	as = spills ? whole[kind] : kind;
	if (!(1 << got & (logged ? may[as].logged : may[as].indexed)))
		fail(label, text);
	else if (kind == DM_payload && !spills && got == EIO_ &&
		 (!strncmp(what, "flip", 4) || !strncmp(what, "zero", 4)) &&
		 !named_rightly(p))
		fail(label, "another file fails");
	if (nr % FSCK_EVERY == 0)
		check_fsck(&m, v, kind, got, label);
	dm_image_free(&m);
}

/* ---- all ---- */

static void make_masters(void)
{
	struct dm_master ma;
	char store[80];

	snprintf(store, sizeof(store), "%s/store", work);
	dm_build(store, &ma);
	images[V_MARKED] = ma.closed;
	images[V_CRASHED] = ma.crashed;
	stale = ma.stale;
	dm_image_copy(&images[V_CLOSED], &ma.closed);
	dm_image_copy(&images[V_NOINDEX], &ma.closed);
	for (unsigned int k = 0; k < images[V_NOINDEX].nr;) {
		struct dm_image *m = &images[V_NOINDEX];

		if (strncmp(m->file[k].name, "index/", 6)) {
			k++;
			continue;
		}
		free(m->file[k].data);
		m->file[k] = m->file[--m->nr];
	}
	for (int v = 0; v < NR_VARIANTS; v++)
		dm_parts_find(&parts[v], &images[v]);
}

/* The mark that is made here is one that index.c would make. */
static void check_mark(void)
{
	struct dm_file *f = dm_image_find(&images[V_MARKED], "index/clean");
	struct dm_file *g = dm_image_find(&images[V_MARKED], "index/data.mdb");
	struct mark d;

	if (!f || !g || f->len != sizeof(d)) {
		fail("index/clean", "not as it is made here");
		return;
	}
	memcpy(&d, f->data, sizeof(d));
	if (le32_get(d.summed) != 1 ||
	    le32_get(d.sum) != bale_crc32c(0, g->data, g->len) ||
	    le32_get(d.crc) != bale_crc32c(0, &d, sizeof(d) - 4))
		fail("index/clean", "not as it is made here");
}

/* Undamaged, each opens and shows its newest moment. */
static void check_masters(void)
{
	for (int v = 0; v < NR_VARIANTS; v++) {
		write_state(&images[v], v, DM_super);
		if (serve(0) != GOOD)
			fail("undamaged", served->what);
		write_state(&images[v], v, DM_super);
		if (run_fsck("-n", "-f", "--deep"))
			fail("undamaged", "fsck finds something");
	}
}

static void report(uint64_t seed)
{
	static const char *const names[] = { "good",	"EIO",	 "older",
					     "refused", "wrong", "crash",
					     "hang" };
	struct tally all = { 0 };

	printf("%-24s%8s", "kind", "states");
	for (int o = 0; o < NR_OUTCOMES; o++)
		printf("%9s", names[o]);
	printf("%7s\n", "fsck");
	for (int k = 0; k < DM_NR_KINDS; k++) {
		printf("%-24s%8u", kinds[k].text, tally[k].states);
		for (int o = 0; o < NR_OUTCOMES; o++) {
			printf("%9u", tally[k].outcome[o]);
			all.outcome[o] += tally[k].outcome[o];
		}
		printf("%7u\n", tally[k].fsck);
		all.states += tally[k].states;
		all.fsck += tally[k].fsck;
	}
	printf("seed %llu: %u states, %u through fsck, %u wrong, %u failures\n",
	       (unsigned long long)seed, all.states, all.fsck,
	       all.outcome[WRONG], failures);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	unsigned int states = argc > 2 ? (unsigned int)atoi(argv[2]) : 300;
	int only = argc > 3 ? atoi(argv[3]) : -1;
	uint64_t rng = seed * 0x9e3779b97f4a7c15u | 1;

	verbose = argc > 4;
	bale_log_set_level(verbose ? BALE_LOG_WARN : BALE_LOG_ERR);
	snprintf(work, sizeof(work), "/dev/shm/balefs-damage-XXXXXX");
	if (!mkdtemp(work))
		return 77;
	snprintf(state_dir, sizeof(state_dir), "%s/state", work);
	snprintf(out_file, sizeof(out_file), "%s/out", work);
	served = mmap(NULL, sizeof(*served), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (served == MAP_FAILED)
		return 1;
	setenv("TMPDIR", work, 1);
	make_masters();
	check_mark();
	check_masters();
	for (unsigned int n = 0; n < states; n++) {
		enum dm_kind kind =
			only < 0 ? n % DM_NR_KINDS : (enum dm_kind)only;
		enum variant v = dm_draw(&rng, NR_VARIANTS);

		if (kind == DM_index_rot)
			v = V_MARKED;
		one_state(kind, v, &rng, n / DM_NR_KINDS);
	}
	report(seed);
	dm_remove_tree(work);
	return failures ? 1 : 0;
}
